package proxyproto

import "context"

type contextKey struct{}

// NewContext returns ctx with what whoever dials is to say about the connection
// that it is for.
func NewContext(ctx context.Context, h *Header) context.Context {
	return context.WithValue(ctx, contextKey{}, h)
}

// FromContext returns the header of [NewContext]. It is nil, which appends as that
// of the sender's own connection, if there is none: a health check, for example.
func FromContext(ctx context.Context) *Header {
	h, _ := ctx.Value(contextKey{}).(*Header)
	return h
}
