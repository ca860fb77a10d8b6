package service

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
)

// TestListOfARunningProxyDoesNotParseTheFile: the file in force is listed from memory. A token that
// was just made is in the next list.
func TestListOfARunningProxyDoesNotParseTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.jsonl")
	if _, err := tokenfile.Create(file, tokenfile.CreateOptions{Name: "pump-0"}); err != nil {
		t.Fatal(err)
	}
	s, _ := startService(t, bundledConfig+"auth: {sources: [{file: {path: "+file+"}}]}\n")
	stores, err := s.tokenStores()
	if err != nil || len(stores) != 1 {
		t.Fatal(stores, err)
	}
	if _, ok := stores[0].TokenStore.(confinedStore).TokenStore.(runningFile); !ok {
		t.Errorf("the store is a %T", stores[0].TokenStore.(confinedStore).TokenStore)
	}
	api := s.api()
	for i := range 3 {
		if _, err := api.CreateToken(t.Context(), "", tokenfile.CreateOptions{Name: fmt.Sprint("pump-", i+1)}); err != nil {
			t.Fatal(err)
		}
		list, err := api.ListTokens(t.Context(), admin.TokenQuery{First: i + 1, Limit: 10})
		if err != nil || list.Total != i+2 || len(list.Tokens) != 1 || list.Tokens[0].Subject != fmt.Sprint("pump-", i+1) {
			t.Errorf("%+v, %v", list, err)
		}
	}
}
