"""Orders and their lines."""

from django.db import models

from accounts.models import User
from catalog.models import Book

STATES = [("open", "Open"), ("paid", "Paid"), ("sent", "Sent"), ("cancelled", "Cancelled")]


class Order(models.Model):
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="orders")
    state = models.CharField(max_length=10, choices=STATES, default="open")
    created = models.DateTimeField(auto_now_add=True)

    def total_cents(self):
        return sum(line.quantity * line.price_cents for line in self.lines.all())


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    book = models.ForeignKey(Book, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField(default=1)
    price_cents = models.PositiveIntegerField()
