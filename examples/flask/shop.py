"""A small shop in Flask that tells InSend what its visitors do::

    gunicorn --chdir examples/flask shop:app --workers 2

``make shop-flask`` starts it with all that it needs. Look for ``insend``: each event is one line in a view. Cart, login
and orders stand in the signed session cookie, so that any worker process can serve any page.
"""

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from flask import Flask, abort, redirect, render_template, request, session
from werkzeug import Response as Redirect

from insend_relay.producers import NotAccepted
from insend_relay.producers.events import Item
from insend_relay.producers.flask import FlaskInSend


class Product(NamedTuple):
    """What the shop sells."""

    name: str
    price: float


PRODUCTS = {"1": Product("Teapot", 24.5), "2": Product("Cup", 6.0), "3": Product("Green tea", 9.9)}
A_YEAR = 365 * 86_400

log = logging.getLogger("shop")


def visitor_uid() -> str | None:
    """Who is logged in, as InSend knows them; None for a guest."""
    name = session.get("customer")
    return f"customer-{name}" if name else None


app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ.get("SHOP_SECRET", "only for the demo: anybody can read it here"),
    # A form on another site cannot act for a customer of ours. Served by https, set SESSION_COOKIE_SECURE as well.
    SESSION_COOKIE_SAMESITE="Lax",
)
insend = FlaskInSend(app, visitor_uid=visitor_uid)  # INSEND_APP_KEY, INSEND_DOMAIN, INSEND_REDIS_URL


@contextmanager
def the_page_goes_on() -> Iterator[None]:
    """While Redis is away, an event is lost: the customer, who waits for the page, matters more."""
    try:
        yield
    except NotAccepted as error:
        log.warning("%s", error)


def go_to(path: str) -> Redirect:
    """What follows a form: another page, which may be reloaded."""
    return redirect(path, 303)


def cart_items() -> list[Item]:
    """The whole cart, as InSend wants it."""
    cart: dict[str, int] = session.get("cart", {})
    lines = [(product_id, count, PRODUCTS[product_id]) for product_id, count in cart.items()]
    return [
        {"product_id": product_id, "qnt": count, "price": product.price, "product_name": product.name}
        for product_id, count, product in lines
    ]


def total() -> float:
    """What the cart costs."""
    cart: dict[str, int] = session.get("cart", {})
    return round(sum(PRODUCTS[product_id].price * count for product_id, count in cart.items()), 2)


@app.get("/")
def home() -> str:
    """All products."""
    with the_page_goes_on():
        insend.link(title="Tea shop")
    return render_template("home.html", products=PRODUCTS)


@app.get("/p/<product_id>")
def product(product_id: str) -> str:
    """One product."""
    found = PRODUCTS.get(product_id) or abort(404)
    with the_page_goes_on():
        insend.view_product(product_id=product_id, product_name=found.name, price=found.price)
    return render_template("product.html", product_id=product_id, product=found)


@app.post("/cart/add")
def add() -> Redirect:
    """One more of a product into the cart."""
    product_id, cart = request.form.get("product_id", ""), session.get("cart", {})
    if product_id not in PRODUCTS:
        abort(404)
    session["cart"] = {**cart, product_id: cart.get(product_id, 0) + 1}
    with the_page_goes_on():
        insend.update_cart(items=cart_items())
    return go_to("/cart")


@app.get("/cart")
def cart() -> str:
    """What stands in the cart."""
    return render_template("cart.html", items=cart_items(), total=total())


@app.get("/login")
def login_form() -> str:
    """Asks for a name."""
    return render_template("login.html", next=request.args.get("next", "/cart"))


@app.post("/login")
def login() -> Redirect | tuple[str, int]:
    """From here on the guest is a customer: the first event says both uids, the later ones the customer's alone."""
    name, after = request.form.get("name", ""), request.form.get("next", "")
    if not re.fullmatch("[a-z]{1,20}", name):
        word = "A name of one to twenty small letters, please."
        return render_template("login.html", next=after, word=word), 400
    if session.get("customer") != name:
        session["orders"] = {}  # those of whoever was logged in before
    session["customer"] = name
    with the_page_goes_on():
        insend.update_info(visitor_info={"first_name": name, "email": f"{name}@example.com"})
    return go_to(after if re.fullmatch(r"/(?!/)[\w/-]*", after, re.ASCII) else "/cart")


@app.post("/logout")
def logout() -> Redirect:
    """Forget the customer, and the cart."""
    session.clear()
    return go_to("/")


@app.post("/buy")
def buy() -> Redirect:
    """Make an order of the cart."""
    if "customer" not in session:
        return go_to("/login?next=/cart")
    items, revenue = cart_items(), total()
    if not items:
        return go_to("/cart")
    order_id = secrets.token_hex(6)
    session["orders"] = {**session["orders"], order_id: "new"}
    session["cart"] = {}
    with the_page_goes_on():
        insend.purchase(order_id=order_id, revenue=revenue, items=items, idempotency_key=f"purchase-{order_id}")
    return go_to(f"/order/{order_id}")


def state_of(order_id: str) -> str:
    """How far an order is; 404 when it is not this customer's."""
    state: str = session.get("orders", {}).get(order_id) or abort(404)
    return state


@app.get("/order/<order_id>")
def order(order_id: str) -> str:
    """Thank you."""
    return render_template("order.html", order_id=order_id, state=state_of(order_id))


@app.post("/order/<order_id>/ship")
def ship(order_id: str) -> Redirect:
    """In real life the warehouse does this, so it names the customer whose order it is."""
    if state_of(order_id) == "new":
        session["orders"] = {**session["orders"], order_id: "shipped"}
        with the_page_goes_on():
            insend.order_update(order_id=order_id, state="shipped", visitor_uid=visitor_uid())
    return go_to(f"/order/{order_id}")


@app.post("/opt-out")
def opt_out() -> Redirect:
    """From here on this browser's events are not kept."""
    answer = go_to("/")
    answer.set_cookie("convead_track_disable", "1", max_age=A_YEAR, samesite="Lax")
    return answer
