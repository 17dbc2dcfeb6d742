"""A small shop in FastAPI that tells InSend what its visitors do::

    uvicorn --app-dir examples/fastapi shop:app --workers 2

``make shop-fastapi`` starts it with all that it needs. Look for ``insend``: each event is one line in a handler. Cart,
login and orders stand in the signed session cookie, so that any worker process can serve any page.
"""

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.templating import Jinja2Templates
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection

from insend_relay.producers import AsyncInSend, NotAccepted
from insend_relay.producers.asgi import InSendMiddleware
from insend_relay.producers.events import Item


class Product(NamedTuple):
    """What the shop sells."""

    name: str
    price: float


PRODUCTS = {"1": Product("Teapot", 24.5), "2": Product("Cup", 6.0), "3": Product("Green tea", 9.9)}
SECRET = os.environ.get("SHOP_SECRET", "only for the demo: anybody can read it here")
A_YEAR = 365 * 86_400

log = logging.getLogger("shop")
insend = AsyncInSend.from_env()  # INSEND_APP_KEY, INSEND_DOMAIN, INSEND_REDIS_URL


def visitor_uid(request: HTTPConnection) -> str | None:
    """Who is logged in, as InSend knows them; None for a guest."""
    name = request.session.get("customer")
    return f"customer-{name}" if name else None


app = FastAPI(openapi_url=None)
# The session cookie is SameSite=Lax: a form on another site cannot act for a customer of ours. Served by https, this
# middleware wants https_only=True as well.
app.add_middleware(SessionMiddleware, secret_key=SECRET)
app.add_middleware(InSendMiddleware, insend=insend, visitor_uid=visitor_uid)


@contextmanager
def the_page_goes_on(event: str) -> Iterator[None]:
    """While Redis is away an event is lost, but not the page: the customer, who waits for it, matters more."""
    try:
        yield
    except NotAccepted as error:
        log.warning("not kept: %s: %s", event, error)


async def form(request: Request) -> dict[str, str]:
    """The fields of a plain form; FastAPI's own ``Form()`` wants a further package, python-multipart."""
    return dict(parse_qsl((await request.body()).decode(errors="replace")))


Form = Annotated[dict[str, str], Depends(form)]
templates = Jinja2Templates(Path(__file__).parent / "templates")


def page(request: Request, name: str, status: int = 200, **shown: Any) -> HTMLResponse:
    """A page of the shop."""
    return templates.TemplateResponse(
        request, f"{name}.html", {"customer": request.session.get("customer"), **shown}, status_code=status
    )


def go_to(path: str) -> RedirectResponse:
    """What follows a form: another page, which may be reloaded."""
    return RedirectResponse(path, status_code=303)


def cart_items(request: Request) -> list[Item]:
    """The whole cart, as InSend wants it."""
    cart: dict[str, int] = request.session.get("cart", {})
    lines = [(product_id, count, PRODUCTS[product_id]) for product_id, count in cart.items()]
    return [
        {"product_id": product_id, "qnt": count, "price": product.price, "product_name": product.name}
        for product_id, count, product in lines
    ]


def total(request: Request) -> float:
    """What the cart costs."""
    cart: dict[str, int] = request.session.get("cart", {})
    return round(sum(PRODUCTS[product_id].price * count for product_id, count in cart.items()), 2)


@app.get("/")
async def home(request: Request) -> HTMLResponse:
    """All products."""
    with the_page_goes_on("link"):
        await insend.link(title="Tea shop")
    return page(request, "home", products=PRODUCTS)


@app.get("/p/{product_id}")
async def product(request: Request, product_id: str) -> HTMLResponse:
    """One product."""
    found = PRODUCTS.get(product_id)
    if found is None:
        raise HTTPException(404)
    with the_page_goes_on("view_product"):
        await insend.view_product(product_id=product_id, product_name=found.name, price=found.price)
    return page(request, "product", product_id=product_id, product=found)


@app.post("/cart/add")
async def add(request: Request, form: Form) -> RedirectResponse:
    """One more of a product into the cart."""
    product_id, cart = form.get("product_id", ""), request.session.get("cart", {})
    if product_id not in PRODUCTS:
        raise HTTPException(404)
    request.session["cart"] = {**cart, product_id: cart.get(product_id, 0) + 1}
    with the_page_goes_on("update_cart"):
        await insend.update_cart(items=cart_items(request))
    return go_to("/cart")


@app.get("/cart")
async def cart(request: Request) -> HTMLResponse:
    """What stands in the cart."""
    return page(request, "cart", items=cart_items(request), total=total(request))


@app.get("/login")
async def login_form(request: Request, next: str = "/cart") -> HTMLResponse:
    """Asks for a name."""
    return page(request, "login", next=next)


@app.post("/login")
async def login(request: Request, form: Form) -> Response:
    """From here on the guest is a customer: the first event says both uids, the later ones the customer's alone."""
    name, after = form.get("name", ""), form.get("next", "")
    if not re.fullmatch("[a-z]{1,20}", name):
        return page(request, "login", 400, next=after, word="A name of one to twenty small letters, please.")
    if request.session.get("customer") != name:
        request.session["orders"] = {}  # those of whoever was logged in before
    request.session["customer"] = name
    with the_page_goes_on("update_info"):
        await insend.update_info(visitor_info={"first_name": name, "email": f"{name}@example.com"})
    return go_to(after if re.fullmatch(r"/(?!/)[\w/-]*", after, re.ASCII) else "/cart")


@app.post("/logout")
async def logout(request: Request) -> RedirectResponse:
    """Forget the customer, and the cart."""
    request.session.clear()
    return go_to("/")


@app.post("/buy")
async def buy(request: Request) -> RedirectResponse:
    """Make an order of the cart."""
    if "customer" not in request.session:
        return go_to("/login?next=/cart")
    items, revenue = cart_items(request), total(request)
    if not items:
        return go_to("/cart")
    order_id = secrets.token_hex(6)
    request.session["orders"] = {**request.session.get("orders", {}), order_id: "new"}
    request.session["cart"] = {}
    with the_page_goes_on(f"purchase {order_id}"):
        await insend.purchase(order_id=order_id, revenue=revenue, items=items, idempotency_key=f"purchase-{order_id}")
    return go_to(f"/order/{order_id}")


def state_of(request: Request, order_id: str) -> str:
    """How far an order is; 404 when it is not this customer's."""
    state: str | None = request.session.get("orders", {}).get(order_id)
    if state is None:
        raise HTTPException(404)
    return state


@app.get("/order/{order_id}")
async def order(request: Request, order_id: str) -> HTMLResponse:
    """Thank you."""
    return page(request, "order", order_id=order_id, state=state_of(request, order_id))


@app.post("/order/{order_id}/ship")
async def ship(request: Request, order_id: str) -> RedirectResponse:
    """In real life the warehouse does this, so it names the customer whose order it is."""
    if state_of(request, order_id) == "new":
        request.session["orders"] = {**request.session["orders"], order_id: "shipped"}
        with the_page_goes_on(f"order_update {order_id}"):
            await insend.order_update(order_id=order_id, state="shipped", visitor_uid=visitor_uid(request))
    return go_to(f"/order/{order_id}")


@app.post("/opt-out")
async def opt_out() -> RedirectResponse:
    """From here on this browser's events are not kept."""
    answer = go_to("/")
    answer.set_cookie("convead_track_disable", "1", max_age=A_YEAR, samesite="lax")
    return answer
