"""A caller that uses `requests`, as a script would. Arguments: the sidecar's URL, client id and secret."""

import sys

import requests

base, client_id, client_secret = sys.argv[1:]

issued = requests.post(
    base + "/api/oauth2/server/tokens",
    data={"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret},
    timeout=10,
)
issued.raise_for_status()
token = issued.json()["access_token"]

with requests.Session() as session:
    session.headers["Authorization"] = "Bearer " + token
    seen = session.get(
        base + "/orders",
        params={"sudo": "mobile:+8613800000000", "tenantId": "7", "q": "a b&c", "page": "2"},
        timeout=10,
    ).json()
    assert seen["query"] == "q=a+b%26c&page=2", seen
    headers = {name.lower(): value for name, value in seen["headers"]}
    assert headers["x-auth-client-id"] == client_id, headers
    assert headers["x-auth-user-mobile"] == "+8613800000000", headers
    assert headers["x-auth-tenant-id"] == "7", headers
    assert "authorization" not in headers, headers

    # A body without a length is sent in chunks.
    sent = session.post(base + "/upload", data=(b"x" * 1000 for _ in range(300)), timeout=10).json()
    assert sent["body_bytes"] == 300_000, sent
    files = session.post(base + "/form", files={"file": ("a.txt", b"hello")}, timeout=10).json()
    assert files["body_bytes"] > 5, files

refused = requests.get(base + "/orders", timeout=10)
assert refused.status_code == 401, refused.status_code
assert refused.json()["error"] == "missing_token", refused.text

in_the_url = requests.get(base + "/orders", params={"access_token": token}, timeout=10)
assert in_the_url.json()["query"] in ("", None), in_the_url.text

revoked = requests.get(base + "/api/oauth2/server/tokens/revoke", params={"token": token}, timeout=10)
assert revoked.json() == {"code": 0, "msg": "success"}, revoked.text
after = requests.get(base + "/orders", headers={"Authorization": "Bearer " + token}, timeout=10)
assert after.status_code == 401 and after.json()["error"] == "invalid_token", after.text

print("ok")
