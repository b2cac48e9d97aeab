"""A small product and user API: `python -m demo.shop_api --port PORT --users COUNT`.

    GET /products/{id}         -> {"id", "productName", "price", "currency", "inStock"}   ids 101 to 199
    GET /users/{id}?region=    -> {"userId", "plan", "region", "seats"}                   ids u-00000 and up

An unknown id is a 404 with `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from aiohttp import web

FIRST_PRODUCT, LAST_PRODUCT = 101, 199
KINDS = ("Kettle", "Lamp", "Chair", "Teapot", "Blanket", "Notebook", "Clock", "Mirror", "Basket")
COLORS = ("Red", "Blue", "Green", "Yellow", "White", "Black", "Grey")
PLANS = ("free", "team", "business")
DEFAULT_REGION = "eu"


def product(product_id: str) -> dict[str, object] | None:
    """Return the product with this id, always the same one; None for an unknown id."""
    number = int(product_id) if product_id.isascii() and product_id.isdigit() else 0
    if not FIRST_PRODUCT <= number <= LAST_PRODUCT:
        return None
    return {
        "id": number,
        "productName": f"{COLORS[number % len(COLORS)]} {KINDS[number % len(KINDS)]}",
        "price": round(4.99 + (number - FIRST_PRODUCT) * 2.5, 2),
        "currency": "EUR",
        "inStock": number % 4 != 0,
    }


def user_id(number: int) -> str:
    """Return the id of a user; numbers start at 0."""
    return f"u-{number:05d}"


def plan_of(number: int) -> str:
    """Return the plan of a user."""
    return PLANS[number % len(PLANS)]


def user(wanted_id: str, region: str, users: int) -> dict[str, object] | None:
    """Return the API's record of a user; None for an unknown id."""
    digits = wanted_id.removeprefix("u-")
    number = int(digits) if digits.isascii() and digits.isdigit() else -1
    if not 0 <= number < users or user_id(number) != wanted_id:
        return None
    return {"userId": wanted_id, "plan": plan_of(number), "region": region, "seats": 1 + number % 9}


def application(users: int) -> web.Application:
    """Return the web application, which knows `users` users."""

    async def get_product(request: web.Request) -> web.Response:
        product_id = request.match_info["id"]
        return _json_response(product(product_id), f"Product {product_id} does not exist.")

    async def get_user(request: web.Request) -> web.Response:
        wanted_id = request.match_info["id"]
        record = user(wanted_id, request.query.get("region", DEFAULT_REGION), users)
        return _json_response(record, f"User {wanted_id} does not exist.")

    async def health(_request: web.Request) -> web.Response:
        return _json_response({"status": "ok"}, "")

    app = web.Application()
    app.add_routes(
        [
            web.get("/products/{id}", get_product),
            web.get("/users/{id}", get_user),
            web.get("/health", health),
        ]
    )
    return app


def _json_response(record: Mapping[str, object] | None, not_found_message: str) -> web.Response:
    status = web.HTTPNotFound.status_code if record is None else web.HTTPOk.status_code
    body = {"error": {"code": "NOT_FOUND", "message": not_found_message}} if record is None else record
    return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A small product and user API.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--users", type=int, default=5000)
    arguments = parser.parse_args()
    # one access log line per request would take most of the time
    web.run_app(
        application(arguments.users), host="127.0.0.1", port=arguments.port, access_log=None, print=None
    )


if __name__ == "__main__":
    main()
