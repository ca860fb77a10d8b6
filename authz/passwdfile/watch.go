package passwdfile

import (
	"context"
	"maps"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
)

// Notify implements [authz.Notifier]. While it runs, it watches the file by name and follows
// symbolic links, so it also notices renames and links that are swapped. It revokes by token id.
// One call at a time watches; further calls wait until it ends.
func (f *File) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	f.follower.Run(ctx, func() { f.deliver(ctx, revoked) })
	return nil
}

// revoke leaves the sessions of these tokens to the running call of Notify, or the next.
func (f *File) revoke(ids []string) {
	f.mu.Lock()
	for _, id := range ids {
		f.revoked[id] = struct{}{}
	}
	f.mu.Unlock()
	f.follower.Wake()
}

// deliver reports the revocations that are waiting. Those that it cannot report before ctx ends are
// left for the next call of Notify.
func (f *File) deliver(ctx context.Context, revoked func(authz.Revocation)) {
	f.mu.Lock()
	ids := slices.Sorted(maps.Keys(f.revoked))
	f.mu.Unlock()
	for _, id := range ids {
		if ctx.Err() != nil {
			return
		}
		// Before the call: the id may be revoked once more while it runs.
		f.mu.Lock()
		delete(f.revoked, id)
		f.mu.Unlock()
		revoked(authz.Revocation{TokenID: id})
	}
}
