"""A handler whose start-up imports much of the standard library: the load for the learning benchmark."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

MODULES = """
    argparse asyncio base64 bz2 calendar cmd codeop colorsys concurrent.futures configparser csv
    ctypes dataclasses decimal difflib email.mime.multipart email.mime.text email.parser fileinput
    fractions ftplib getpass gettext gzip hashlib hmac html.parser http.client http.cookiejar
    http.cookies http.server imaplib importlib.metadata importlib.resources inspect ipaddress json
    logging.config logging.handlers lzma mailbox mimetypes multiprocessing.managers
    multiprocessing.pool multiprocessing.shared_memory netrc optparse pdb pickletools plistlib
    poplib pprint pyclbr queue sched secrets selectors shelve shlex shutil smtplib socketserver
    sqlite3 ssl statistics string subprocess tarfile tempfile timeit tomllib trace unittest.mock
    urllib.request urllib.robotparser uuid wsgiref.simple_server xml.dom.minidom
    xml.etree.ElementTree xml.sax xmlrpc.client xmlrpc.server zipapp zipfile zoneinfo
"""

# What a mail or text service ends up with: codecs are found by name, each in a file of its own.
CODECS = """
    ascii big5 cp037 cp437 cp850 cp1250 cp1251 cp1252 cp1253 cp1254 euc_jp euc_kr gb18030 gb2312 gbk
    idna iso2022_jp iso8859_1 iso8859_2 iso8859_5 iso8859_7 iso8859_9 iso8859_15 koi8_r koi8_u
    latin_1 mac_roman punycode quopri_codec shift_jis utf_7 utf_8_sig utf_16 utf_16_be utf_16_le
    utf_32
"""

for name in MODULES.split():
    importlib.import_module(name)
for name in CODECS.split():
    importlib.import_module(f"encodings.{name}")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return the number of loaded modules and the outcome of one small piece of work."""
    if event["work"] == "parse":
        outcome = ElementTree.fromstring(event["xml"]).tag
    else:
        outcome = hashlib.sha256(json.dumps(event).encode()).hexdigest()
    return {"modules": len(sys.modules), "outcome": outcome}
