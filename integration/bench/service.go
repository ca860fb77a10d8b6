//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// serviceTime is how long the token service takes for an answer.
const serviceTime = 5 * time.Millisecond

// runService is a token service that allows every device. It prints its address to out and answers
// until it is killed; a GET returns how many questions it has answered.
func runService(out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return err
	}
	var questions atomic.Int64
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprint(w, questions.Load())
			return
		}
		questions.Add(1)
		var question struct{ Token string }
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		<-time.After(serviceTime)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"result":"allow","subject":"%s","cache_ttl":600}`, strings.TrimPrefix(question.Token, "token-of-"))
	}))
}

// questions returns how many questions the token service at an address has answered.
func questions(address string) (n float64, err error) {
	resp, err := http.Get("http://" + address)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = fmt.Fscan(resp.Body, &n)
	return n, err
}
