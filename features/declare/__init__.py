"""What a surface file is written with: columns, counter families, labels, the served row, a team's own views."""
