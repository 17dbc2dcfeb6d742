"""The pages of the example shop, and the event that each sends.

No view says whose event it is: the middleware knows. What belongs to a change in the database goes by ``on_commit``, so
that an order which is rolled back is not reported.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth import get_user_model, login, logout
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from insend_relay.producers import NotAccepted
from insend_relay.producers.django import insend
from shop.cart import Cart
from shop.customers import uid_of
from shop.models import Order
from shop.products import PRODUCTS, Product

_log = logging.getLogger(__name__)


@contextmanager
def if_redis_is_there() -> Iterator[None]:
    """Let the page go on without Redis: to the customer it matters more than what we hear of it."""
    try:
        yield
    except NotAccepted as error:
        _log.warning("%s", error)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """All products."""
    with if_redis_is_there():
        insend.link(title="The tea shop")
    return render(request, "home.html", {"products": PRODUCTS.values()})


@require_safe
def product(request: HttpRequest, product_id: int) -> HttpResponse:
    """One product."""
    product = _product(product_id)
    with if_redis_is_there():
        insend.view_product(product_id=product.id, product_name=product.name, price=product.price)
    return render(request, "product.html", {"product": product})


@require_POST
def add_to_cart(request: HttpRequest) -> HttpResponse:
    """Put one more of a product into the cart."""
    cart = Cart(request)
    cart.add(_product(request.POST.get("product_id", "")))
    with if_redis_is_there():
        insend.update_cart(items=cart.items)  # the whole cart, each time
    return _see("cart")


@require_safe
def show_cart(request: HttpRequest) -> HttpResponse:
    """The cart."""
    return render(request, "cart.html", {"cart": Cart(request)})


@require_http_methods(["GET", "HEAD", "POST"])
def log_in(request: HttpRequest) -> HttpResponse:
    """Log in: in a shop for trying things, by any name and without a password."""
    name, wanted = request.POST.get("name", ""), request.POST.get("next") or request.GET.get("next", "")
    if request.method != "POST":
        return render(request, "login.html", {"next": wanted})
    if not re.fullmatch(r"[a-z]{1,20}", name):
        words = "Please give a name of up to twenty small letters, such as anna."
        return render(request, "login.html", {"next": wanted, "words": words}, status=400)
    user, _ = get_user_model().objects.get_or_create(username=name)
    login(request, user)
    with if_redis_is_there():
        # The first event after the login: it tells the tracker by itself that the guest has become this customer.
        insend.update_info(visitor_info={"first_name": name.title(), "email": f"{name}@example.com"})
    local = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) and wanted.startswith("/")
    return _see(wanted if local else "cart")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """Log out."""
    logout(request)
    return _see("home")


@require_POST
def buy(request: HttpRequest) -> HttpResponse:
    """Make an order of what is in the cart."""
    if not request.user.is_authenticated:
        return _see("/login?next=/cart")
    cart = Cart(request)
    if not cart.lines:
        return _see("cart")
    with transaction.atomic():
        order = Order.objects.create(customer=request.user, revenue=cart.total)
        insend.on_commit.purchase(
            order_id=order.id,
            revenue=order.revenue,
            items=cart.items,
            idempotency_key=f"purchase-{order.id}",  # however often this is sent, it counts once
        )
    cart.clear()
    return _see("order", order.id)


@require_safe
def show_order(request: HttpRequest, order_id: str) -> HttpResponse:
    """An order, to its owner."""
    order = get_object_or_404(Order, id=order_id, customer=request.user.pk)
    return render(request, "order.html", {"order": order})


@require_POST
@transaction.atomic
def ship(request: HttpRequest, order_id: str) -> HttpResponse:
    """Ship an order; in real life the warehouse does this."""
    order = get_object_or_404(Order.objects.select_for_update(), id=order_id, customer=request.user.pk, state="new")
    order.state = "shipped"
    order.save()
    # The tracker knows the order under its owner's uid, whoever ships it: so here the view says whose event it is.
    insend.on_commit.order_update(order_id=order.id, state=order.state, visitor_uid=uid_of(order.customer.username))
    return _see("order", order.id)


@require_POST
def opt_out(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Do not track this browser any longer: the middleware heeds the cookie that the vendor's script sets."""
    response = _see("home")
    response.set_cookie("convead_track_disable", "1", max_age=400 * 86_400, samesite="Lax")
    return response


def _product(id: int | str) -> Product:
    try:
        return PRODUCTS[int(id)]
    except (KeyError, ValueError):
        raise Http404("no such product") from None


def _see(page: str, *arguments: str) -> HttpResponse:
    """After a form: GET that page."""
    response: HttpResponseRedirect = redirect(page, *arguments)
    response.status_code = 303
    return response
