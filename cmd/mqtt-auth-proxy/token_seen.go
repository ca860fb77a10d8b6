package main

import (
	"context"
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// seenTimeout is how long a command waits to learn when tokens were used.
const seenTimeout = 5 * time.Second

// seen adds the times at which the tokens were last used. If these cannot be read, it warns, and
// the command continues.
func (t *tokens) seen(views []tokenView) []tokenView {
	c, err := t.loadConfig()
	if err != nil || len(views) == 0 {
		return views // --file needs no configuration
	}
	target := service.PresenceTarget(c)
	if t.file != "" && target.DSNFile != "" {
		return views // a command on a file needs no database
	}
	ids := make([]string, len(views))
	for i, v := range views {
		ids[i] = v.ID
	}
	ctx, cancel := context.WithTimeout(context.Background(), seenTimeout)
	defer cancel()
	seen, err := presence.TokensSeen(ctx, target, ids)
	if err != nil {
		fmt.Fprintln(t.stderr, "warning: cannot read when tokens were last seen:", printable(err.Error()))
		return views
	}
	for i, v := range views {
		views[i].LastSeen = orNil(seen[v.ID])
	}
	return views
}

// timeOrDash returns a time as it is printed in a table.
func timeOrDash(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format(time.RFC3339)
}
