package proxyproto_test

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/proxyproto"
)

func ExampleRead() {
	conn := bufio.NewReader(strings.NewReader("PROXY TCP4 192.0.2.7 198.51.100.1 51000 1883\r\nwhat the client sends"))
	header, err := proxyproto.Read(conn)
	if err != nil {
		fmt.Println(err)
		return
	}
	rest, _ := conn.ReadString('\n')
	fmt.Println(header.Source, "->", rest)
	// Output: 192.0.2.7:51000 -> what the client sends
}
