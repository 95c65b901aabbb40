"""Tells customers and the warehouse about an order."""

import asyncio
import logging

import httpx

logger = logging.getLogger(__name__)
RETRIES = 3


async def post_with_retry(client, url, payload):
    for attempt in range(RETRIES):
        try:
            response = await client.post(url, json=payload)
            response.raise_for_status()
            return response
        except httpx.HTTPError as error:
            logger.warning("attempt %d failed: %s", attempt + 1, error)
            await asyncio.sleep(2**attempt)
    raise RuntimeError(f"{url} could not be reached")


async def notify_customer(client, order):
    payload = {"to": order.user.email, "order": order.pk}
    await post_with_retry(client, "http://mail.internal/send", payload)


async def notify_warehouse(client, order):
    payload = {"order": order.pk, "lines": order.lines.count()}
    await post_with_retry(client, "http://warehouse.internal/orders", payload)


async def notify_all(order):
    async with httpx.AsyncClient(timeout=5.0) as client:
        await asyncio.gather(notify_customer(client, order), notify_warehouse(client, order))
