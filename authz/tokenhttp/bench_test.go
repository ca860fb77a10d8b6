package tokenhttp

import (
	"testing"
	"time"
)

const benchBody = `{"result":"allow","subject":"pump-7","token_id":"pump-7-a","expires_in":3600,` +
	`"client_attrs":{"site":"north"},"acl":[{"permission":"allow","action":"all","topics":["v1/${clientid}/#"]}]}`

func BenchmarkRequest(b *testing.B) {
	s := sourceOf(b, Options{URL: "https://service.test/mqtt"})
	r := pump()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.message(&r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	s := sourceOf(b, Options{URL: "https://service.test/mqtt"})
	r := pump()
	a := answer{status: 200, contentType: "application/json", body: []byte(benchBody), received: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.reader.decide(a, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoopback(b *testing.B) {
	server := serve(b, okJSON(benchBody).ServeHTTP)
	s := sourceOf(b, Options{URL: server.URL})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authorize(b.Context(), pump()); err != nil {
			b.Fatal(err)
		}
	}
}
