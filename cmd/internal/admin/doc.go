// Package admin serves HTTP for operators and their tools: probes, metrics, profiles and
// the API. It has a listener of its own, on a loopback address by default.
//
// Every path needs the admin token, except the probes /livez and /readyz, and /v1/push,
// which is signed:
//
//	curl -H "Authorization: Bearer $(cat mqtt-auth-proxy-data/admin-token)" http://127.0.0.1:9883/metrics
//
// Errors are problem details (RFC 9457), see package problem.
package admin
