"""Pages and tables of training runs: `igc report` and `igc compare`."""
