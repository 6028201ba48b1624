package remoting

// Version is the release that our commands carry: that of RocketMQ 5.3.3, whose
// behaviour is reproduced. From 4.0.0 on the number of release major.minor.patch
// is 213 + 2*(10*(10*major+minor) + patch - 400), so 213 + 2*(530+3-400) = 479;
// the even number below is the release's snapshot.
const Version = 479

// What a name server of this project says of itself as a value of 101; it can be
// neither changed nor deleted. Apache's have no such value.
const (
	// NamespaceSelf is the namespace.
	NamespaceSelf = "SLUICE"
	// KeyHalves is "once" where brokers decide a half message once, whichever
	// client asks.
	KeyHalves = "halves"
	// HalvesOnce is its value.
	HalvesOnce = "once"
)

// VersionOf is the number of a release from 4.0.0 on, 0 for earlier ones; those
// behind 5.9.9 all have 612.
func VersionOf(major, minor, patch int) int {
	n := 10*(10*major+minor) + patch
	switch {
	case n < 400:
		return 0
	case n > 599:
		return 612
	}
	return 213 + 2*(n-400)
}

// VersionStandardJSON is the first release (4.9.4) whose clients are sent
// standard JSON by a name server without asking for it.
const VersionStandardJSON = 401
