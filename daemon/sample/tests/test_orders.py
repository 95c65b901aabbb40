"""Orders reserve stock or fail as a whole."""

import pytest

from catalog.models import Author, Book
from orders.services import OutOfStock, place_order

pytestmark = pytest.mark.django_db


@pytest.fixture
def book():
    author = Author.objects.create(name="Karin Boye")
    return Book.objects.create(
        title="Kallocain", author=author, isbn="9789174290000", price_cents=9900, stock=2
    )


def test_an_order_takes_books_from_stock(django_user_model, book):
    user = django_user_model.objects.create(username="leo")
    order = place_order(user, {book.pk: 2})
    book.refresh_from_db()
    assert book.stock == 0
    assert order.total_cents() == 19800


def test_an_order_for_too_many_changes_nothing(django_user_model, book):
    user = django_user_model.objects.create(username="leo")
    with pytest.raises(OutOfStock):
        place_order(user, {book.pk: 3})
    book.refresh_from_db()
    assert book.stock == 2
