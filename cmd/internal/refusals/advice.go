package refusals

import (
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Advice returns what an operator can do about refusals for a reason, in one line. It is empty for
// an unknown reason.
func Advice(r proxy.Reason) string { return advice[r] }

// Reasons returns the names of all reasons.
func Reasons() (names []string) {
	for _, r := range proxy.Reasons() {
		names = append(names, string(r.Reason))
	}
	return names
}

// advice is what to do about each reason. What a reason means is said by proxy.Reasons.
var advice = map[proxy.Reason]string{
	proxy.Reason(authz.Unknown):          "compare the fingerprint with `token list`. The device may send another token, an incomplete one, one with a line end, or one in a place that `token.from` does not name",
	proxy.Reason(authz.WrongPassword):    "set the password in the device, or give the user a new one",
	proxy.MalformedToken:                 "look at what the device sends in the places that `token.from` names",
	proxy.Reason(authz.Expired):          "give the device a new token with `token rotate`, or extend the old one with `token extend`; check the clock of the proxy",
	proxy.Reason(authz.NotYetValid):      "wait, or change the time from which the token is valid; check the clock of the proxy",
	proxy.Reason(authz.Disabled):         "if the device is to connect, enable its token with `token enable`",
	proxy.Reason(authz.Revoked):          "if the device is to connect, give it a new token or certificate. GET /v1/status says how many denials are in force",
	proxy.Reason(authz.WrongClientID):    "find out whether another device uses the token; if not, change the client ids that the token is bound to",
	proxy.Reason(authz.WrongUsername):    "correct the user name in the device, or change the user names that the token is bound to",
	proxy.Reason(authz.WrongAddress):     "find out whether the token was stolen; if not, change the networks that it is bound to. Behind a load balancer the listener needs `proxy_protocol`",
	proxy.Reason(authz.WrongCertificate): "find out whether the token was stolen; if not, change the certificate that it is bound to",
	proxy.Reason(authz.NotAuthorized):    "find out why the token source that the detail names refuses the device",
	proxy.NoToken:                        "set a token in the device, in a place that `token.from` names",
	proxy.NoIdentity:                     "set a token in the device, in a place that `token.from` names",
	proxy.WrongAuthMethod:                "send the token in the CONNECT as authentication data, or elsewhere without an authentication method",
	proxy.NoClientID:                     "set a client id in the device, or let it begin clean sessions with MQTT 3.1.1 or 5.0",
	proxy.ClientIDInUse:                  "give each device a client id of its own",
	proxy.ClientIDNotUsable:              "give the device another client id; the detail says what is wrong with it",
	proxy.IdentityNotUsable:              "change the subject or the user name, or the templates `upstream.username`, `upstream.password` and `upstream.client_id`; the detail says what is wrong",
	proxy.TopicNotUsable:                 "change the subject or the attribute, which must be one level of a topic",
	proxy.SubjectNotUsable:               "give the device a token with another name: the name stands in topics, so it must not be empty or `me`, nor contain `/`, `+`, `#` or control characters. An external broker takes every name",
	proxy.WillTopic:                      "allow the topic in the topic rules, or change the will in the device",
	proxy.WillQoS:                        "lower the QoS of the will in the device, or raise the limit",
	proxy.WillRetain:                     "do not retain the will of the device, or change the limit",
	proxy.WillTooLarge:                   "shorten the will of the device, or raise the limit",
	proxy.SourceUnavailable:              "repair the token service or database that the detail names; devices reconnect by themselves",
	proxy.UpstreamUnavailable:            "repair the broker; `brokers list` shows its last error. Devices reconnect by themselves",
	proxy.UpstreamCredentials:            "correct `upstream.username` and `upstream.password`, or the user at the broker",
	proxy.UpstreamRefused:                "look for this client id in the log of the broker",
	proxy.Busy:                           "raise the limit that the detail names, or add memory, file descriptors or another proxy",
	proxy.RateExceeded:                   "wait, because devices are let in at the rate of `limits.connect_rate` and `limits.connect_rate_per_address`; raise these if the broker can take more",
	proxy.Throttled:                      "find out which devices behind the address send wrong tokens; if it is a load balancer, it must send the PROXY protocol or be in `auth.guard.exempt`",
	proxy.Draining:                       "do nothing: devices reconnect once the proxy has been restarted",
	proxy.Internal:                       "report the bug with the line of the log",
	proxy.WrongVersion:                   "update the device, or allow its version in `connect.protocols`",
	proxy.Malformed:                      "update the device; the detail says what is wrong with its CONNECT",
	proxy.TooLarge:                       "raise `connect.max_packet` if the CONNECT is to be that large",
	proxy.Displaced:                      "find out which address opens connections without sending anything, or raise `limits.pending`",
	proxy.NotMQTT:                        "find out what connects: it is another program, or a device that uses TLS at a listener without TLS. The detail says what the bytes look like",
	proxy.TLSFailed:                      "if the device closed the connection, it does not trust the certificate: give it the CA, which is `tls/ca-root.pem` in the data directory if the proxy has made the certificate. Otherwise the detail says what failed",
	proxy.ConnectTimeout:                 "check the network of the device; raise `connect.timeout` if it is slow",
	proxy.ConnectionLost:                 "check the network of the device and, if this happens often, its own timeout",
	proxy.ProxyHeader:                    "let the load balancer send the PROXY protocol and name its network in `proxy_protocol.trusted`; devices must not connect to this listener directly",
	proxy.HTTPRefused:                    "correct the path, origin or subprotocol of the WebSocket client; the detail says which",
}
