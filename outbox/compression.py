"""The codecs of a record's payload: as it is, or deflate with a preset dictionary.

The dictionary is what the data objects of the contract have in common: the field names in the order in which producers
write them, with the punctuation around them. The most frequent ones stand last, where a reference to them is shortest.
Stored records need their dictionary, so it never changes: a better one is a new codec, and records that use it are of a
higher version.

A window of 4 KB and little memory make the start of the compressor cheap, which is most of its cost: a cart of 733
bytes becomes 128 in 7 us. zlib's defaults take 17 us for the same size.
"""

from __future__ import annotations

import zlib

PLAIN, DEFLATED = 0, 1
_LEVEL, _WINDOW, _MEMORY = 6, -12, 5  # the window is 2**12 bytes, without zlib's header and checksum
_SMALL = 64  # bytes; what is shorter does not become smaller by more than a few bytes
DICTIONARY = (
    b'"attributes":{"date_of_birth":"19","gender":"female""male","language":"ru"en","full_name":"","key_page_id":'
    b'"file_url":"https://","file_title":"'
    b'"type":"add_to_cart","type":"remove_from_cart","type":"custom","type":"file","type":"link","type":"mailto",'
    b'"type":"update_info","type":"order_update","type":"view_product","type":"purchase","domain":"'
    b'","path":"/","title":"","referrer":"https://www.","visitor_info":{"first_name":"","last_name":"","email":".com",'
    b'"phone":"+7"},"properties":{"key":"'
    b'"category_id":"","properties":{"order_id":"","revenue":0,"state":"new"paid"shipped"canceled"}}'
    b'{"app_key":"","visitor_uid":"","guest_uid":"","type":"update_cart","domain":"","host":"www.",'
    b'"url":"https://www.","properties":{"items":[{"product_id":"","qnt":1,"price":0.00,"product_name":"",'
    b'"product_url":"https://www.","product_image_url":"https://www..jpg"},{"product_id":"","qnt":1,"price":'
)


def compressed(payload: bytes) -> tuple[int, bytes]:
    """The codec that makes the payload smallest, and the payload in it."""
    if len(payload) < _SMALL:
        return PLAIN, payload
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    smaller = deflate.compress(payload) + deflate.flush()
    return (DEFLATED, smaller) if len(smaller) < len(payload) else (PLAIN, payload)


def expanded(codec: int, stored: bytes) -> bytes:
    """The payload as it was before ``compressed``; ValueError when it cannot be read or the codec is not known."""
    if codec == PLAIN:
        return stored
    if codec != DEFLATED:
        raise ValueError(f"payload codec {codec} is not known")
    inflate = zlib.decompressobj(_WINDOW, DICTIONARY)
    try:
        payload = inflate.decompress(stored)
    except zlib.error as error:
        raise ValueError(f"the compressed payload cannot be read: {error}") from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError("the compressed payload is cut short or has bytes behind its end")
    return payload
