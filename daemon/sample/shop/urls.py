"""Which view answers which address."""

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from accounts.views import ProfileView, UserViewSet
from catalog.views import BookDetailView, BookListView, search_books
from orders.views import OrderViewSet, checkout

router = DefaultRouter()
router.register("users", UserViewSet)
router.register("orders", OrderViewSet)

urlpatterns = [
    path("", BookListView.as_view(), name="book-list"),
    path("books/<int:pk>/", BookDetailView.as_view(), name="book-detail"),
    path("search/", search_books, name="search"),
    path("profile/", ProfileView.as_view(), name="profile"),
    path("checkout/", checkout, name="checkout"),
    path("api/", include(router.urls)),
]
