// Package recipes tests the recipes in its folders as they stand: what each README
// promises is done with the files next to it. Its tests carry the build tag
// integration; see package integration.
package recipes
