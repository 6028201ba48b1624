package sql92

// Outcome is what the evaluation comes to: TRUE, FALSE, UNKNOWN or ERROR.
func (e *Expr) Outcome(get func(name string) (string, bool)) string {
	w := run{get: get, steps: MaxSteps}
	v := w.eval(e.root)
	switch {
	case w.steps < 0 || v.kind == valFailed:
		return "ERROR"
	case v.kind == valNull:
		return "UNKNOWN"
	case v.isTrue():
		return "TRUE"
	default:
		return "FALSE"
	}
}

// Steps is what the evaluation costs.
func (e *Expr) Steps(get func(name string) (string, bool)) int {
	w := run{get: get, steps: MaxSteps}
	w.eval(e.root)
	return MaxSteps - w.steps
}

// ReadDouble and ReadInteger read the numbers of properties.
var (
	ReadDouble  = readDouble
	ReadInteger = readInteger
)
