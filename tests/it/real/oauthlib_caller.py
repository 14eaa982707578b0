"""A caller that uses `requests-oauthlib`. Arguments: the sidecar's URL, client id and secret.

Two things are not this library's defaults: the client's secret goes into the form
(`include_client_id=True`; it would send HTTP Basic, which this endpoint does not read), and clear-text HTTP has
to be allowed, as for any server without https.
"""

import os
import sys
import time

from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError
from requests_oauthlib import OAuth2Session

base, client_id, client_secret = sys.argv[1:]
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

session = OAuth2Session(client=BackendApplicationClient(client_id=client_id))
token = session.fetch_token(
    base + "/api/oauth2/server/tokens",
    client_secret=client_secret,
    include_client_id=True,
    timeout=10,
)
# The life of the token comes as a string and is a number for the library all the same.
assert int(token["expires_in"]) == 43200, token
assert abs(float(token["expires_at"]) - time.time() - 43200) < 60, token
assert token["token_type"].lower() == "bearer", token
assert token["scope"] == ["sudo"], token

seen = session.get(base + "/orders?sudo=uid:42", timeout=10).json()
headers = {name.lower(): value for name, value in seen["headers"]}
assert headers["x-auth-client-id"] == client_id, headers
assert headers["x-auth-user-id"] == "42", headers

stranger = OAuth2Session(client=BackendApplicationClient(client_id=client_id))
try:
    stranger.fetch_token(
        base + "/api/oauth2/server/tokens", client_secret="wrong", include_client_id=True, timeout=10
    )
except InvalidClientError:
    pass
else:
    raise AssertionError("a wrong secret was taken")

print("ok")
