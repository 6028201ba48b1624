package remoting

import "strconv"

// Language is the language of a client, as commands carry it.
type Language uint8

// The languages of the protocol.
const (
	LanguageJava   Language = 0
	LanguageCPP    Language = 1
	LanguageDotNet Language = 2
	LanguagePython Language = 3
	LanguageDelphi Language = 4
	LanguageErlang Language = 5
	LanguageRuby   Language = 6
	LanguageOther  Language = 7 // also what is absent or unknown
	LanguageHTTP   Language = 8
	LanguageGo     Language = 9
	LanguagePHP    Language = 10
	LanguageOMS    Language = 11
	LanguageRust   Language = 12
	LanguageNodeJS Language = 13
)

var languageNames = [...]string{"JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS"}

// String is the name on the wire; a number that the protocol does not know is
// OTHER.
func (l Language) String() string {
	if int(l) < len(languageNames) {
		return languageNames[l]
	}
	return languageNames[LanguageOther]
}

// ParseLanguage reads a name, or a number in decimal digits as Java does.
// Everything unknown is [LanguageOther].
func ParseLanguage(s string) Language {
	switch s {
	case "JAVA":
		return LanguageJava
	case "GO":
		return LanguageGo
	}
	for i, name := range languageNames {
		if name == s {
			return Language(i)
		}
	}
	if n, err := strconv.ParseUint(s, 10, 8); err == nil {
		return languageNumber(uint8(n))
	}
	return LanguageOther
}

func languageNumber(n uint8) Language {
	if int(n) < len(languageNames) {
		return Language(n)
	}
	return LanguageOther
}
