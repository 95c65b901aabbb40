"""The checkout page and the API of the orders."""

from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from rest_framework.viewsets import ReadOnlyModelViewSet

from orders.models import Order
from orders.notify import notify_all
from orders.serializers import OrderSerializer
from orders.services import OutOfStock, place_order


class OrderViewSet(ReadOnlyModelViewSet):
    queryset = Order.objects.prefetch_related("lines__book")
    serializer_class = OrderSerializer


@login_required
def checkout(request):
    basket = request.session.get("basket", {})
    try:
        order = place_order(request.user, basket)
    except OutOfStock as error:
        return render(request, "orders/out_of_stock.html", {"title": str(error)})
    async_to_sync(notify_all)(order)
    request.session["basket"] = {}
    return redirect("profile")
