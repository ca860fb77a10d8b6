#!/usr/bin/env python3
"""A receiver of events of mqtt-auth-proxy: python3 receiver.py SECRET-FILE [PORT]"""
import hashlib, hmac, json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = open(sys.argv[1], "rb").read().rstrip(b"\r\n")
seen = set()  # deliveries that were taken; bound it in a real service

def handle(event):
    print(json.dumps(event), flush=True)  # stands for your database

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        stamp = self.headers.get("X-Timestamp", "")
        mac = hmac.new(SECRET, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        signed = hmac.compare_digest("hmac-sha256=" + mac, self.headers.get("X-Signature", ""))
        if not signed or abs(time.time() - int(stamp)) > 300:
            return self.answer(401)
        delivery = self.headers["X-Delivery"]
        if delivery not in seen:  # the same events come again if an answer was lost
            for event in json.loads(body)["events"]:
                handle(event)
            seen.add(delivery)
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

ThreadingHTTPServer(("127.0.0.1", int((sys.argv + ["8091"])[2])), Handler).serve_forever()
