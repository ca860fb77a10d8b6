package tokenfile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

func Example() {
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tokens.jsonl")

	made, err := tokenfile.Create(path, tokenfile.CreateOptions{Name: "pump-7"})
	if err != nil {
		log.Fatal(err)
	}
	file, err := tokenfile.Open(path, tokenfile.Options{})
	if err != nil {
		log.Fatal(err)
	}
	request := authz.Request{Token: made.Token, ClientID: "pump-7"}
	grant, err := file.Authorize(context.Background(), request)
	fmt.Println(grant.Subject, err)

	// The command line does this in another process.
	if _, err := tokenfile.Revoke(path, "pump-7"); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = file.Notify(ctx, func(r authz.Revocation) {
		fmt.Println("cut the sessions of", r.TokenID == made.ID)
		cancel()
	})
	fmt.Println(err)
	_, err = file.Authorize(context.Background(), request)
	fmt.Println(err)
	// Output:
	// pump-7 <nil>
	// cut the sessions of true
	// <nil>
	// denied: unknown_token: not in the token file
}

func ExampleRotate() {
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tokens.jsonl")
	if _, err := tokenfile.Create(path, tokenfile.CreateOptions{Name: "pump-7"}); err != nil {
		log.Fatal(err)
	}
	// A day in which the device may use either token.
	if _, err := tokenfile.Rotate(path, "pump-7", 24*time.Hour); err != nil {
		log.Fatal(err)
	}
	entries, err := tokenfile.Show(path, "pump-7")
	for _, e := range entries {
		fmt.Println(e.Subject, "expires:", !e.Expires.IsZero())
	}
	fmt.Println(err)
	// Output:
	// pump-7 expires: true
	// pump-7 expires: false
	// <nil>
}

func ExampleFormatError() {
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tokens.jsonl")
	text := `{"id":"pump-7","token_hash":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}
{"id":"pump-8","expires_at":1798761600}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		log.Fatal(err)
	}
	_, err = tokenfile.Open(path, tokenfile.Options{})
	var broken *tokenfile.FormatError
	fmt.Println(errors.As(err, &broken), broken.Faults[0].Line, broken.Faults[0].Field)
	// Output: true 2 expires_at
}
