// Package admin serves HTTP for operators and their tools: probes, metrics, profiles and
// the API. It has a listener of its own, on a loopback address by default.
//
// Every path needs a token, except the probes /livez and /readyz, and /v1/push, which is signed:
//
//	curl -H "Authorization: Bearer $(cat mqtt-auth-proxy-data/admin-token)" http://127.0.0.1:9883/v1/status
//
// # Roles
//
// There is a token for each [Role], and each [Route] names the lowest role that may use it.
// Whatever a route says, only the role operate may use methods that change something. Handlers
// find out who asks with [RequesterOf].
//
// # Browsers
//
// A browser signs in with a token at POST /sign-in and gets a cookie, which is valid for twelve
// hours, until POST /sign-out, or until the token file has another token. A request without a token
// whose Accept header names text/html is answered with the form. After ten wrong tokens an address
// has to wait for the rest of the minute.
//
// A page of another site must not be able to act through the browser of an operator:
//
//   - The cookie is not sent with requests that other sites cause (SameSite), and does not count if
//     another origin has caused the request (Sec-Fetch-Site).
//   - Requests of other origins that may change something are refused, with and without a cookie
//     ([http.CrossOriginProtection]).
//   - Routes for browsers, and requests with the cookie, must name the admin side in their Host
//     header by a name of [Access]. Otherwise the owner of any name could have it resolve to this
//     machine. Programs with a bearer token may use any name.
//   - No answer may be shown in a frame, stored, or load anything from elsewhere.
//   - Over a network the form asks for no token without TLS, unless the operator has listed the host.
//
// # Floods
//
// [NewServer] bounds the number of connections, each request and its time, so that those who can
// reach the admin side take nothing away from devices. Beyond the bound a connection is closed
// that has sent no token, of the address that has most of them.
//
// Errors are problem details (RFC 9457), see package problem.
package admin
