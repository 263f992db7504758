from tsal.cli import main

raise SystemExit(main())
