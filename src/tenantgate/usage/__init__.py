"""Usage and cost out of audit records: reports, signed statements, reconciliation with others' ledgers."""
