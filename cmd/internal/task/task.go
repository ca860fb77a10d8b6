// Package task runs the goroutines of the command that belong to no connection, so that a
// panic in one of them does not end the process.
//
// [Run] is for work that goes on as long as the program: after a panic it starts the work
// again. [Do] is for one step of such work whose callers need an answer: a panic becomes an
// error like any other. The code that reports the error logs the stack, once.
package task

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

const (
	// firstPause is how long Run waits before it starts the work again. The pause doubles
	// with each panic up to longestPause, and is as short as at first again after the work
	// has run for longer than that.
	firstPause   = time.Second
	longestPause = time.Minute
)

// Panic is the error that a panic leads to.
type Panic struct {
	// Kind describes the value of the panic. It contains no data of a client; see [Kind].
	Kind string
	// Stack is the stack of the goroutine.
	Stack []byte
}

// Error returns the kind, without the stack.
func (p *Panic) Error() string { return "internal error: " + p.Kind }

// StackOf returns the stack of the panic that led to err, nil if none did.
func StackOf(err error) []byte {
	if p, ok := errors.AsType[*Panic](err); ok {
		return p.Stack
	}
	return nil
}

// Kind describes the value of a panic. Only the text of the runtime is safe to repeat: any
// other value may contain data of a client, and only its type is named.
func Kind(value any) string {
	if err, ok := value.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", value)
}

// Do calls f and returns its error. If f panics, the error is a [*Panic].
func Do(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &Panic{Kind: Kind(value), Stack: debug.Stack()}
		}
	}()
	return f()
}

// Run calls work, which returns when ctx is done or when it has nothing left to do. If work
// panics, Run passes the panic to report and calls work again after a pause.
func Run(ctx context.Context, report func(*Panic), work func(context.Context)) {
	pause := firstPause
	for {
		began := time.Now()
		err := Do(func() error { work(ctx); return nil })
		p, ok := errors.AsType[*Panic](err)
		if !ok {
			return
		}
		report(p)
		if time.Since(began) > longestPause {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}
