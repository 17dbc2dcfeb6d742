"""What a web application imports: it takes events, checks them, and keeps them in Redis::

    from insend_relay.producers import InSend

    insend = InSend.from_env()
    receipt = insend.purchase(order_id="1042", revenue=99.9, visitor_uid="42")

Light on purpose: it needs redis and nothing of Celery or requests.
"""

from insend_relay.outbox.errors import InvalidEvent, NotAccepted, SettingsError
from insend_relay.outbox.settings import Settings
from insend_relay.producers.async_insend import AsyncInSend
from insend_relay.producers.events import Id, Item, Number
from insend_relay.producers.insend import InSend
from insend_relay.producers.not_given import NOT_GIVEN
from insend_relay.producers.receipt import Receipt
from insend_relay.producers.visitor_info import ERASE

__all__ = [
    "ERASE",
    "NOT_GIVEN",
    "AsyncInSend",
    "Id",
    "InSend",
    "InvalidEvent",
    "Item",
    "NotAccepted",
    "Number",
    "Receipt",
    "Settings",
    "SettingsError",
]
