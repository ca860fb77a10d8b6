#!/usr/bin/env python3
"""A token service for mqtt-auth-proxy: python3 service.py [PORT]"""
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DEVICES = {  # stands for your database: what the proxy shall know of each token
    "pump-7-token": {"subject": "pump-7", "cache_ttl": 60},
    "gauge-3-token": {"subject": "gauge-3", "limits": {"publish_rate": 5, "max_qos": 1}, "acl": [
        {"permission": "allow", "action": "publish", "topics": ["v1/devices/me/telemetry"]}]},
    "guest-token": {"subject": "guest", "expire_at": 1700000000},
}
STOLEN = {"valve-2-token"}

def decide(token):
    if token in STOLEN:
        return {"result": "deny", "reason_code": "banned", "reason": "reported stolen"}
    if token not in DEVICES:
        return {"result": "ignore"}
    return {"result": "allow", **DEVICES[token]}

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open
    wbufsize = -1  # head and body leave together

    def do_POST(self):
        try:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = 200, decide(question.get("token"))
        except Exception as error:  # "I cannot tell", which is not a no
            status, answer = 500, {"error": type(error).__name__}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int((sys.argv + ["8090"])[1])), Handler).serve_forever()
