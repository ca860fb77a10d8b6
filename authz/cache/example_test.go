package cache_test

import (
	"context"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
)

func Example() {
	calls := 0
	source := authorizeFunc(func(context.Context, authz.Request) (*authz.Grant, error) {
		calls++
		return &authz.Grant{TokenID: "pump-7-k3x2aa", Subject: "pump-7"}, nil
	})
	answers := cache.New(source, cache.Options{})
	defer answers.Close()

	device := authz.Request{Token: authz.NewToken("map_0123456789")}
	for range 3 {
		grant, err := answers.Authorize(context.Background(), device)
		fmt.Println(grant.Subject, err, "after", calls, "calls")
	}
	fmt.Println("revoked:", answers.Revoke(authz.Revocation{Subject: "pump-7"}))
	grant, err := answers.Authorize(context.Background(), device)
	fmt.Println(grant.Subject, err, "after", calls, "calls")
	// Output:
	// pump-7 <nil> after 1 calls
	// pump-7 <nil> after 1 calls
	// pump-7 <nil> after 1 calls
	// revoked: 1
	// pump-7 <nil> after 2 calls
}
