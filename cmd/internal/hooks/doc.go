// Package hooks tells a service of the operator, a receiver, over HTTP when devices connect and
// disconnect and when they are refused.
//
//	sender := hooks.New(log)
//	sender.Set(&hooks.Target{URL: "https://fleet.example/mqtt", Secret: secret, Events: hooks.Events()})
//	server.Trace.Opened, server.Trace.Closed, server.Trace.Refused = sender.Opened, sender.Closed, sender.Refused
//	go sender.Run(ctx)
//	...
//	sender.Close(ctx)
//
// # The request
//
//	POST /mqtt
//	Content-Type: application/json
//	X-Timestamp: 1700000000
//	X-Signature: hmac-sha256=<hex of HMAC-SHA-256(secret, timestamp "." body)>
//	X-Delivery: <the same text for each attempt to deliver these events>
//
//	{"events":[{"event":"connected","time":"2026-11-30T20:00:00.123Z","subject":"pump-7",...}]}
//
// An [Event] never contains a token or a password. A request has the events of a second, or 1,000.
//
// # Delivery
//
// With a 2xx answer the receiver has accepted the events. After no answer, or an answer that says
// something about the receiver and not about the events (3xx, 401, 403, 404, 408, 425, 429, 5xx),
// the same request is repeated with a new timestamp, after one second and then after up to a
// minute. Events may therefore arrive twice. After any other answer the events are dropped, because
// they would be refused again. Redirects are not followed.
//
// # Bounds
//
// The hooks encode an event and put it into a queue; nothing waits for the receiver. At most 10,000
// events or 8 MiB are kept, and beyond that the oldest are dropped. Connects and disconnects have a
// queue of their own, so that refusals, which anyone can cause, do not push them out. In each
// queue, one device or one refused address may take at most a hundredth of the room, so that it
// cannot push out the events of others. [Stats] counts what is dropped.
package hooks
