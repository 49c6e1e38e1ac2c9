"""A web application (WSGI) that computes prices by a formula which its caller sends.

That is a hole on purpose: the formula is evaluated, so that whoever sends one runs code in the server.
"""

from urllib.parse import parse_qs


def app(environ, start_response):
    formula = parse_qs(environ["QUERY_STRING"]).get("formula", ["0"])[0]
    try:
        status, text = "200 OK", str(eval(formula))
    except Exception as error:
        status, text = "500 Internal Server Error", f"{type(error).__name__}: {error}"
    body = f"{text}\n".encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
