"""Counts checks, and says of each that fails what is wrong for whom."""


class Ignored(str):
    """Why a check was left out; it is reported and not counted as passed."""


class Report:
    def __init__(self):
        self.passed = 0
        self.failures = []
        self.ignored = {}

    def check(self, subject, what, problems):
        """Enters one check: `problems` is a list of texts, empty if it holds, or an `Ignored`."""
        if isinstance(problems, Ignored):
            self.ignored.setdefault(f"{what}: {problems}", []).append(subject)
        elif problems:
            self.failures += [f"{subject}: {what}: {problem}" for problem in problems]
        else:
            self.passed += 1

    def end(self):
        """Prints everything; the exit code."""
        for reason, subjects in self.ignored.items():
            print(f"ignored: {'; '.join(subjects)}: {reason}")
        for failure in self.failures:
            print(f"FAILED: {failure}")
        verdict = "FAILED" if self.failures else "ok"
        ignored = sum(len(subjects) for subjects in self.ignored.values())
        counts = f"{self.passed} passed; {len(self.failures)} failed; {ignored} ignored"
        print(f"test result: {verdict}. {counts}")
        return 1 if self.failures else 0
