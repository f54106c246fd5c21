"""Reads requests that a push service received, as its browsers do: with Mozilla's libraries, which share no code with the origin.

Standard input: a JSON array of requests, each with the browser's private key and secret (hexadecimal), the body (base64), the header
`authorization` and the service's origin. Prints what each says, as a JSON array of strings, once each signature holds.
"""

import base64
import json
import sys

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02


def claims(authorization):
    """The signed claims, whose signature py_vapid has checked against the key in the header."""
    assert Vapid02.verify(authorization), "the signature does not hold"
    token = authorization.removeprefix("vapid t=").split(",")[0]
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def read(request):
    assert claims(request["authorization"])["aud"] == request["origin"], "it is signed for another service"
    key = ec.derive_private_key(int(request["key"], 16), ec.SECP256R1())
    body = base64.b64decode(request["body"])
    secret = bytes.fromhex(request["auth"])
    return http_ece.decrypt(body, private_key=key, dh=None, key=None, auth_secret=secret, version="aes128gcm").decode()


print(json.dumps([read(request) for request in json.load(sys.stdin)]))
