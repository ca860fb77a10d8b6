package observe

import (
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenhttp"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenjwt"
)

// SourceMetrics makes the metrics of token sources in one scrape. Of selects the source.
type SourceMetrics struct {
	emitter
	source string
}

// Of returns the metrics of the source with that name, such as http0.
func (m SourceMetrics) Of(source string) SourceMetrics {
	m.source = source
	return m
}

// of adds the source to labels.
func (m SourceMetrics) of(labels ...string) []string {
	return append([]string{"source", m.source}, labels...)
}

// rateLimited is the help of a metric with several scopes.
const rateLimited = "Requests that were refused before a source was asked, by scope: address (the budget of an address, source all) or form (it cannot be a token of this source)."

// Throttled exports how many requests were refused because their addresses had used up their
// budgets. It applies to all sources together.
func (m SourceMetrics) Throttled(n uint64) {
	m.count("auth_rate_limited_total", rateLimited, float64(n), "source", "all", "scope", "address")
}

// Passwords exports how many password hashes were computed. It concerns all sources.
func (m SourceMetrics) Passwords(s passwordhash.Stats) {
	m.count("password_hashes_total", "Password hashes that were computed to check a password. A password that the cache knows costs none.", float64(s.Hashes))
	m.count("password_hash_seconds_total", "Time that computing password hashes took, in seconds.", s.Time.Seconds())
}

// TokenFile exports the state of a token file or a password file.
func (m SourceMetrics) TokenFile(entries int, loaded time.Time) {
	m.gauge("token_file_entries", "Tokens and users of a file in force, disabled ones included.", float64(entries), m.of()...)
	m.since1970("token_file_last_success_timestamp_seconds", "When the version of a file that is in force was last found valid, in seconds since 1970.", loaded, m.of()...)
}

// Issuer exports the state of an issuer's keys.
func (m SourceMetrics) Issuer(s tokenjwt.Stats) {
	m.gauge("jwt_keys", "Keys of an issuer in force.", float64(s.Keys), m.of()...)
	for outcome, n := range map[string]uint64{"changed": s.Changed, "unchanged": s.Unchanged, "failed": s.Failed} {
		m.count("jwt_key_refreshes_total", "Readings of an issuer's keys, by outcome: changed, unchanged or failed.", float64(n), m.of("outcome", outcome)...)
	}
	m.since1970("jwt_keys_last_success_timestamp_seconds", "When the keys of an issuer were last read, in seconds since 1970.", s.LastSuccess, m.of()...)
}

// Up exports whether the source decides about tokens.
func (m SourceMetrics) Up(is bool) {
	m.flag("auth_source_up", "0 while a token source cannot decide: a token service or database does not answer, or no keys of an issuer could be read. 1 otherwise, also before it is asked.", is, m.of()...)
}

// TokenService exports the requests to a token service.
func (m SourceMetrics) TokenService(s tokenhttp.Stats) {
	for outcome, n := range map[string]uint64{
		"allowed": s.Allowed, "denied": s.Denied, "ignored": s.Ignored, "failed": s.Failed, "busy": s.Busy, "refused": s.Refused,
	} {
		m.count("auth_source_requests_total", "Requests to a token service, by outcome: allowed, denied, ignored, failed, busy or refused.", float64(n), m.of("outcome", outcome)...)
	}
	m.count("auth_source_seconds_total", "Time that requests to a token service took, in seconds.", s.Time.Seconds(), m.of()...)
	m.count("auth_source_retries_total", "Requests to a token service that were sent twice.", float64(s.Retries), m.of()...)
	for _, state := range []string{"closed", "half-open", "open"} {
		m.flag("auth_breaker_state", "1 for the state of a token service's circuit breaker: closed, open (devices at several addresses met faults) or half-open (one request tests whether it answers again).",
			s.Breaker == state, m.of("state", state)...)
	}
}

// Pool has the connections of a source to its database, how many lookups waited for one, and for
// how long.
type Pool struct {
	Used, Idle int
	Waits      uint64
	WaitTime   time.Duration
}

// Connections exports a pool of connections to a database.
func (m SourceMetrics) Connections(p Pool) {
	for state, n := range map[string]int{"used": p.Used, "idle": p.Idle} {
		m.gauge("auth_database_connections", "Open connections of a token source to its database, by state: used or idle.", float64(n), m.of("state", state)...)
	}
	m.count("auth_database_waits_total", "Lookups that had to wait for a connection, because none was free.", float64(p.Waits), m.of()...)
	m.count("auth_database_wait_seconds_total", "Time for which lookups have waited for a connection, in seconds.", p.WaitTime.Seconds(), m.of()...)
}

// Listening exports whether a source gets notifications of changes in its database.
func (m SourceMetrics) Listening(now bool) {
	m.flag("auth_notify_listening", "1 while a source receives the notifications of its database.", now, m.of()...)
}

// Cache exports the counts of the cache in front of a source. malformed is the number of tokens
// that were refused before the cache because of their form.
func (m SourceMetrics) Cache(s cache.Stats, malformed uint64) {
	for store, st := range map[string]cache.StoreStats{"positive": s.Positive, "negative": s.Negative} {
		labels := m.of("store", store)
		m.gauge("cache_entries", "Answers in the cache.", float64(st.Entries), labels...)
		m.gauge("cache_bytes", "Estimated memory of the answers in the cache.", float64(st.Bytes), labels...)
		m.count("cache_hits_total", "Requests answered by the cache.", float64(st.Hits), labels...)
		m.count("cache_evictions_total", "Answers that were evicted for others.", float64(st.Evictions), labels...)
		m.count("cache_expirations_total", "Answers that had expired when they were looked up.", float64(st.Expirations), labels...)
	}
	m.count("cache_misses_total", "Requests that the cache could not answer.", float64(s.Misses), m.of()...)
	m.count("cache_coalesced_total", "Requests that waited for the answer to an equal one under way.", float64(s.Coalesced), m.of()...)
	m.count("cache_cooled_total", "Requests that failed at once because an equal one had just failed.", float64(s.Cooled), m.of()...)
	m.count("cache_stale_served_total", "Grants served after they had expired because the source was unavailable.", float64(s.Stale), m.of()...)
	for outcome, n := range map[string]uint64{"granted": s.Refresh.Granted, "denied": s.Refresh.Denied, "unavailable": s.Refresh.Unavailable} {
		m.count("cache_refresh_total", "Grants refreshed before they expired, by outcome: granted, denied or unavailable.", float64(n), m.of("outcome", outcome)...)
	}
	m.count("auth_overload_total", "Requests that found no place among those under way and waiting.", float64(s.Busy), m.of()...)
	m.gauge("auth_inflight", "Requests to a source under way.", float64(s.InFlight), m.of()...)
	m.gauge("auth_queue", "Requests that wait for a place.", float64(s.Queued), m.of()...)
	m.count("auth_rate_limited_total", rateLimited, float64(malformed), m.of("scope", "form")...)
	m.decisions(s, malformed)
}

// decisions exports how many answers about tokens came from where.
func (m SourceMetrics) decisions(s cache.Stats, malformed uint64) {
	for _, d := range []struct {
		result, origin string
		n              uint64
	}{
		{"granted", "cache", s.Positive.Hits}, {"denied", "cache", s.Negative.Hits}, {"granted", "stale", s.Stale},
		{"granted", "source", s.Source.Granted}, {"denied", "source", s.Source.Denied}, {"unavailable", "source", s.Source.Unavailable},
		{"denied", "form", malformed},
	} {
		m.count("auth_decisions_total", "Answers about tokens, by result (granted, denied, unavailable) and origin (cache, stale, source, form).",
			float64(d.n), m.of("result", d.result, "origin", d.origin)...)
	}
}
