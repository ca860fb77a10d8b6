package denylist_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
)

// everybody grants every token.
type everybody struct{}

func (everybody) Authorize(context.Context, authz.Request) (*authz.Grant, error) {
	return &authz.Grant{TokenID: "t1", Subject: "pump-7"}, nil
}

func Example() {
	dir, err := os.MkdirTemp("", "denials")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	denials, err := denylist.Open(filepath.Join(dir, "denials.jsonl"))
	if err != nil {
		log.Fatal(err)
	}
	if err := denials.Deny(authz.Revocation{Subject: "pump-7"}, time.Now().Add(24*time.Hour), false); err != nil {
		log.Fatal(err)
	}
	if err := denials.Save(); err != nil {
		log.Fatal(err)
	}
	_, err = denials.Before(everybody{}).Authorize(context.Background(), authz.Request{Token: authz.NewToken("a-token")})
	var denial *authz.Denial
	fmt.Println(errors.As(err, &denial), denial.Reason)
	// Output: true revoked
}
