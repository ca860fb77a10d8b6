package problem

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestWrite(t *testing.T) {
	for detail, want := range map[string]string{
		`limit: not in 1 to 5, "<x>"`: `{"title":"Bad Request","status":400,"detail":"limit: not in 1 to 5, \"<x>\""}` + "\n",
		"":                            `{"title":"Bad Request","status":400}` + "\n",
	} {
		w := httptest.NewRecorder()
		Write(w, http.StatusBadRequest, detail)
		if got := w.Body.String(); got != want || w.Code != http.StatusBadRequest {
			t.Errorf("got %d %s, want 400 %s", w.Code, got, want)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/problem+json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
}
