"""What happens when somebody orders."""

from django.db import connection, transaction

from catalog.models import Book
from orders.models import Order, OrderLine


class OutOfStock(Exception):
    pass


@transaction.atomic
def place_order(user, basket):
    order = Order.objects.create(user=user)
    for book_id, quantity in basket.items():
        book = Book.objects.select_for_update().get(pk=book_id)
        if book.stock < quantity:
            raise OutOfStock(book.title)
        book.stock -= quantity
        book.save(update_fields=["stock"])
        OrderLine.objects.create(
            order=order, book=book, quantity=quantity, price_cents=book.price_cents
        )
    return order


def sold_per_month():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT date_trunc('month', o.created), sum(l.quantity)"
            " FROM orders_order o JOIN orders_orderline l ON l.order_id = o.id"
            " WHERE o.state = 'sent' GROUP BY 1 ORDER BY 1"
        )
        return cursor.fetchall()
