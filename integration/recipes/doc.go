// Package recipes tests the recipes in its folders: each test follows the README with the files
// next to it. The tests have the build tag integration; see package integration.
package recipes
