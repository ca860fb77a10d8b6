package service

import (
	"reflect"
	"testing"
)

// TestEveryPartOfTheStateIsExported: a part without a function has no metrics, which looks
// like a figure that never changes.
func TestEveryPartOfTheStateIsExported(t *testing.T) {
	s, _ := startService(t, bundledConfig)
	state := reflect.ValueOf(s.metricState())
	for i := range state.NumField() {
		if state.Field(i).IsNil() {
			t.Errorf("observe.State.%s has no function", state.Type().Field(i).Name)
		}
	}
}
