"""The settings of the example shop; those of Insend Relay stand first."""

import os
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "insend_relay.producers.django",
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "insend_relay.producers.django.middleware.InSendMiddleware",
]
# APP_KEY, DOMAIN and REDIS_URL could stand here too; this shop takes them from INSEND_* variables.
INSEND = {"VISITOR_UID": "shop.customers.visitor_uid"}

SECRET_KEY = os.environ.get("SHOP_SECRET", "for trying things, and for nothing else")
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
DEBUG = False
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

# Orders and customers, in one file for all processes of the server. A process that wants to write waits for its turn.
DATABASE = Path(os.environ.get("SHOP_DATABASE", BASE / "var" / "shop.sqlite3"))
DATABASE.parent.mkdir(parents=True, exist_ok=True)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 60},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
