"""Orders as JSON."""

from rest_framework import serializers

from orders.models import Order, OrderLine


class OrderLineSerializer(serializers.ModelSerializer):
    title = serializers.CharField(source="book.title", read_only=True)

    class Meta:
        model = OrderLine
        fields = ["title", "quantity", "price_cents"]


class OrderSerializer(serializers.ModelSerializer):
    lines = OrderLineSerializer(many=True, read_only=True)
    total_cents = serializers.IntegerField(read_only=True)

    class Meta:
        model = Order
        fields = ["id", "state", "created", "lines", "total_cents"]
