"""`python -m labeldistill`: the command line."""

from labeldistill.cli import main

if __name__ == "__main__":
    main()
