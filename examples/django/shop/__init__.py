"""A small shop under Django that tells Insend Relay what its visitors do.

    cd examples/django
    export INSEND_APP_KEY=demo-key INSEND_DOMAIN=shop.example.com
    python manage.py migrate
    gunicorn shop.wsgi

``views.py`` is what to read, and the lines about Insend Relay in ``settings.py``.
"""
