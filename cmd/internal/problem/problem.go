// Package problem answers HTTP requests that fail with problem details (RFC 9457).
package problem

import (
	"encoding/json"
	"net/http"
)

// Write answers with a problem details object (RFC 9457 section 3): the status, its
// standard title, and detail, which says what the caller can do about it. It must be
// called before anything else is written to w.
func Write(w http.ResponseWriter, status int, detail string) {
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	// Encoding this struct cannot fail, and writing fails only if the client has gone.
	_ = encoder.Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
	}{http.StatusText(status), status, detail})
}
