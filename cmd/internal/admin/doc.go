// Package admin is the HTTP side of the proxy, for operators and their tools:
// probes, metrics and the API. It has a listener of its own, loopback by
// default.
//
// Every path but the probes asks for the admin token:
//
//	curl -H "Authorization: Bearer $(cat mqtt-auth-proxy-data/admin-token)" http://127.0.0.1:9883/metrics
//
// Errors are problem details as in RFC 9457.
package admin
