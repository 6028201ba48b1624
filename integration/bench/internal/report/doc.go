// Package report turns samples into medians, medians into ratios, and judges
// the ratios.
package report
