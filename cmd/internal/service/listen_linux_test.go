package service

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestListenerWidens: an address that overlaps one in force replaces it in one reload, and
// no other process can listen on the port.
func TestListenerWidens(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	live, _ := login(t, s, asDemo(s, 4))
	port := s.current.Load().listeners[0].Addr().(*net.TCPAddr).Port
	for _, host := range []string{"127.0.0.1", "", "127.0.0.1"} {
		address := fmt.Sprintf("%s:%d", host, port)
		edit(t, s, fmt.Sprintf("listeners: [{address: '%s'}]\nadmin: {address: '127.0.0.2:0'}\n", address))
		if err := reload(t, s); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		failing := fmt.Sprintf("listeners: [{address: '0.0.0.0:%d'}]\nauth: {sources: [{file: {path: /nowhere}}]}\nadmin: {address: '127.0.0.2:0'}\n", port)
		edit(t, s, failing)
		if err := reload(t, s); err == nil || !strings.Contains(err.Error(), "/nowhere") {
			t.Errorf("%s: the reload that has to fail later on: %v", address, err)
		}
		p := asDemo(s, 4)
		p.ClientID = "other"
		if code, err := tryLogin(fmt.Sprintf("127.0.0.1:%d", port), p); err != nil || code != packets.Success {
			t.Errorf("%s: %d, %v", address, code, err)
		}
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			ln.Close()
			t.Errorf("%s: others can listen there too", address)
		}
		if !alive(t, live) {
			t.Errorf("%s: a live session has not survived", address)
		}
	}
}
