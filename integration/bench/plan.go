//go:build linux

package main

import "slices"

// variant is a way to run a target that differs from the usual one.
type variant string

const (
	usual        variant = ""
	oneProcessor variant = "one processor"  // GOMAXPROCS=1
	mapped       variant = "mapped topics"  // every packet is read, and topics are rewritten
	ruled        variant = "topic rules"    // every packet is read
	tokenService variant = "token service"  // an HTTP service decides about tokens, in 5 ms
	bundled      variant = "bundled broker" // in place of the sink
)

// item is one thing to measure in every round, a line of the table or several of them.
type item struct {
	work, transport string
	variant         variant
	peer            string // the target to which the proxy is compared; "proxy" is itself, run as usual
	targets         []string
	usually         bool // measured if no rows are chosen
	once            bool // only in the first round, because noise does not change it
	shared          bool // target, load and sink share all processors
	sessions        int
}

// plan returns everything that can be measured, in the order of the table.
func plan() []item {
	all := []string{"proxy", "haproxy", "nginx", "relay"}
	proxy, checking, inGo := all[:1], all[:2], []string{"proxy", "relay"}
	return []item{
		{work: "connect", transport: "plain", peer: "haproxy", targets: all, usually: true},
		{work: "connect", transport: "plain", variant: oneProcessor, peer: "haproxy", targets: proxy, usually: true},
		{work: "connect", transport: "tls", peer: "relay", targets: all, usually: true},
		{work: "connect", transport: "tls", variant: oneProcessor, peer: "relay", targets: proxy, usually: true},
		{work: "storm", transport: "plain", peer: "haproxy", targets: all, usually: true},
		{work: "storm", transport: "plain", variant: tokenService, peer: "haproxy", targets: checking, usually: true},
		{work: "paced", transport: "plain", peer: "nginx", targets: all, usually: true},
		{work: "paced", transport: "plain", variant: oneProcessor, peer: "nginx", targets: proxy, usually: true},
		{work: "paced", transport: "plain", variant: mapped, peer: "proxy", targets: proxy, usually: true},
		{work: "paced", transport: "plain", variant: ruled, peer: "proxy", targets: proxy, usually: true},
		{work: "paced", transport: "tls", peer: "nginx", targets: all, usually: true},
		{work: "ping", transport: "plain", peer: "haproxy", targets: all, usually: true},
		{work: "ping", transport: "plain", variant: oneProcessor, peer: "haproxy", targets: proxy, usually: true},
		{work: "flat", transport: "plain", peer: "nginx", targets: all},
		{work: "flat", transport: "tls", peer: "nginx", targets: all, usually: true},
		{work: "flat", transport: "tls", variant: mapped, peer: "proxy", targets: proxy},
		{work: "bulk", transport: "plain", peer: "haproxy", targets: all},
		{work: "bulk", transport: "plain", variant: mapped, peer: "proxy", targets: proxy},
		{work: "bulk", transport: "tls", peer: "nginx", targets: all, usually: true},
		{work: "latency", transport: "plain", peer: "nginx", targets: all, usually: true},
		{work: "latency", transport: "tls", peer: "nginx", targets: all, usually: true},
		{work: "quiet", transport: "plain", peer: "nginx", targets: all},
		{work: "quiet", transport: "plain", variant: bundled, targets: proxy},
		{work: "quiet", transport: "tls", peer: "nginx", targets: all},
		{work: "fair", transport: "plain", peer: "nginx", targets: all, shared: true},
		{work: "fair", transport: "tls", peer: "nginx", targets: all, shared: true},
		{work: "held", transport: "plain", targets: proxy, shared: true},
		{work: "held", transport: "tls", targets: proxy, shared: true},
		{work: "idle", transport: "plain", peer: "haproxy", targets: all, usually: true, once: true},
		{work: "idle", transport: "tls", peer: "haproxy", targets: all, usually: true, once: true},
		{work: "idle", transport: "plain", variant: mapped, peer: "proxy", targets: proxy, once: true},
		{work: "idle", transport: "tls", variant: mapped, peer: "proxy", targets: proxy, once: true},
		{work: "gc", transport: "plain", peer: "relay", targets: inGo},
		{work: "gc", transport: "tls", peer: "relay", targets: inGo},
		{work: "signals", transport: "plain", targets: inGo, usually: true, once: true},
		{work: "signals", transport: "tls", targets: inGo, usually: true, once: true},
		{work: "calls", transport: "plain", peer: "haproxy", targets: all, usually: true, once: true},
	}
}

// workNames returns all works in the order of the plan.
func workNames() []string {
	var names []string
	for _, it := range plan() {
		if !slices.Contains(names, it.work) {
			names = append(names, it.work)
		}
	}
	return names
}

// items returns the chosen part of the plan. Without chosen rows it is what is usual.
func (o options) items() []item {
	var chosen []item
	for _, it := range plan() {
		named := slices.Contains(o.work, it.work)
		if !slices.Contains(o.transports, it.transport) || !named && (len(o.work) > 0 || !it.usually) {
			continue
		}
		if it.work != "idle" && it.work != "gc" {
			chosen = append(chosen, it)
			continue
		}
		for _, n := range o.sessions {
			it.sessions = n
			chosen = append(chosen, it)
		}
	}
	return chosen
}
