"""Settings of the bookshop."""

import os

SECRET_KEY = os.environ.get("BOOKSHOP_SECRET", "only-for-development")
DEBUG = os.environ.get("BOOKSHOP_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
PAGE_SIZE = 24
RESERVATION_MINUTES = 15

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "catalog",
    "accounts",
    "orders",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("BOOKSHOP_DB", "bookshop"),
        "CONN_MAX_AGE": 60,
    }
}
